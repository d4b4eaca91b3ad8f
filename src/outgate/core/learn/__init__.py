"""Make a policy out of what programs were seen to do."""
