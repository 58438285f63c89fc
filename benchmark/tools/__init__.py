"""Programs about the project: the demo CLIP, calibration, measurements of load and speed."""
