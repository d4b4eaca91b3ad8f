"""The development server: services in processes of their own, a front that routes to them, a task queue."""
