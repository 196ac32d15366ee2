"""Judging tokenizers: whole-picture reconstruction, yardsticks, evaluators, report page."""
