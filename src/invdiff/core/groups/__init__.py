"""What a group is: memberships, the features they are read off, models of groups."""
