"""What comes in from outside before it is known who sends it: the proxy in front, the door of each server."""
