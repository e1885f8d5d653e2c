"""The steps of the preparation, one file each: functions that take one `Volume` and return one."""
