"""Rules that keep digits: equal expressions that do not overflow, underflow or cancel."""
