"""Live pings in, forecasts and gap fills out: Kafka and Redis at the edges, a pure core between them."""
