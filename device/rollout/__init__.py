"""The station's end of deploy/push.sh: receiving, trying, activating."""
