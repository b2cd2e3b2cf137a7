"""One account, bar after bar: look, decide, send, follow, protect, reconcile."""
