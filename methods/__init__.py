"""The methods, one file each; every module here is imported when the first method is looked up."""
