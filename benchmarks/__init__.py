"""Measurements that anyone can repeat: the engine alone, beside other software, and its calibration."""
