"""What clients outside of a real cluster notice when something befalls their gateway's pods."""
