"""What experiments share: trainings of one size, ways to judge them, reports."""
