"""What an operation costs as the platform grows: in replicas, tenants, pages, turns and sessions."""
