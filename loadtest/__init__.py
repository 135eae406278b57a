"""Load tests: locust scenarios that contain their own duration, users and thresholds."""
