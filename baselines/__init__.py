"""One file an algorithm; the file's name is the agent's name. Adding a file here adds an agent."""
