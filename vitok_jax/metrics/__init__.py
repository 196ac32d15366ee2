"""What is measured: functions per picture and states that merge."""
