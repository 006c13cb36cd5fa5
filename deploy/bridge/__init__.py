"""The factory's languages: one program that speaks Modbus, HTTP and Prometheus for all stations."""
