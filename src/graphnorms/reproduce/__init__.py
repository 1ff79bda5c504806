"""Published results trained again by their authors' protocol, beside what was published."""
