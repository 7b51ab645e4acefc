"""The strategies: functions of a model and token ids that print nothing."""
