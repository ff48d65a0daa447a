"""What all servers of one Redis share about models: policies, outlines, and which versions sessions stand on."""
