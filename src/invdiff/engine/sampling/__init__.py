"""The stage that draws pictures, and the calibration of the strength."""
