"""The JSON API under /api/v1: the library's own names, as HTTP. See `endpoints.ENDPOINTS`."""
