"""The checks of `check_env`, by what they are about; each raises with what was found."""
