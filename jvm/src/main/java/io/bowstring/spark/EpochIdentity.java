package io.bowstring.spark;

import java.io.Serializable;
import java.util.UUID;
import org.apache.spark.SparkContext;

/** Whose epoch: a Spark query's id, its run's id, the micro-batch's number. */
record EpochIdentity(String producer, String run, long epoch) implements Serializable {
  /** Local properties that Spark sets for every job of a streaming query. */
  private static final String QUERY_ID = "sql.streaming.queryId";

  static final String BATCH_ID = "streaming.sql.batchId";

  /** The run id has no name of its own: it is the job group that {@code query.stop()} cancels, a UUID. */
  private static final String RUN_ID = "spark.jobGroup.id";

  /** The micro-batch around the calling thread, on the driver; null outside of one, for instance around a batch write. */
  static EpochIdentity ofMicroBatch(String[] options) {
    SparkContext context = context();
    String query = context.getLocalProperty(QUERY_ID);
    String batch = context.getLocalProperty(BATCH_ID);
    if (query == null || batch == null) {
      return null;
    }
    String producer = Options.value(options, "producer");
    return new EpochIdentity(producer == null ? query : producer, runOf(options), Long.parseLong(batch));
  }

  /** The run of the query that the calling thread executes. */
  static String runOf(String[] options) {
    String run = Options.value(options, "run");
    if (run != null) {
      return run;
    }
    String group = context().getLocalProperty(RUN_ID);
    try {
      return UUID.fromString(group == null ? "" : group).toString();
    } catch (IllegalArgumentException error) {
      throw new BowstringException(
          "invalid_argument",
          false,
          "the query's run is unknown, since its job group is '" + group + "' instead of the run's id; set a job group after the write to"
              + " bowstring, or give the query's runId as option 'run'");
    }
  }

  private static SparkContext context() {
    return SparkContext.getOrCreate();
  }
}
