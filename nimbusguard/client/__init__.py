"""What an operator imports: clients with deadlines."""
