"""One raw web server each, without any serving framework: what the machine and uvicorn can do."""
