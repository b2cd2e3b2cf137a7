"""Trading mechanics as pure functions: no environment, no network, no random keys."""
