"""The checks of the chart and of what belongs to it."""
