"""What is fast and what is small, as ratios against something run side by side: `python -m benchmarks.run`."""
