"""The commands simulate, exit-times and markov-chain, on the paper's landscape."""
