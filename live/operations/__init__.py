"""What people and machines see of a daemon: page, metrics, messages, logs, commands."""
