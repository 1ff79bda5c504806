"""Many trials: which to run, where, what they left behind, and what they allow to be said."""
