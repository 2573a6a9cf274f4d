"""`python -m loadgen.calibration`: the same as `kvproxy calibrate`, from a checkout alone."""

from loadgen.calibration.cli import calibrate

calibrate(prog_name="python -m loadgen.calibration")
