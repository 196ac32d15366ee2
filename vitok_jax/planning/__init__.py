"""What a run would need of a pod, found by compiling it for one."""
