"""Who calls, and what they may do: API keys, JSON Web Tokens and client certificates become principals."""
