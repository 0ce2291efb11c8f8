"""One job on several devices and in several processes."""
