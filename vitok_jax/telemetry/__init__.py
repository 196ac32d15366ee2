"""What a run tells: numbers, progress, signs of life."""
