"""What a running process tells about itself, whichever process it is: log lines and traces."""
