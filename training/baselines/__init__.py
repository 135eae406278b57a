"""The autoscalers that a learned policy has to beat, each a policy in the same loop."""
