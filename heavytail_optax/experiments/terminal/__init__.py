"""What the user of a command sees while it works, and how it is stopped."""
