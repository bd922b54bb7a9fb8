"""Real servers on this machine, without docker: the one place that starts any."""
