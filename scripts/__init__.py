"""The commands of `stereo-tr`, one file each: parse, call, print."""
