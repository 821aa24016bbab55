"""What the examples need beside bowstring: packages of the Java world, another Spark, a Kafka broker."""
