"""What people read: a Decision on a terminal, the plan, the HTML report."""
