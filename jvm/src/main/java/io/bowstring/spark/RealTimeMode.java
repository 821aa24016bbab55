package io.bowstring.spark;

import java.util.UUID;
import org.apache.spark.sql.classic.SparkSession;
import org.apache.spark.sql.streaming.Trigger;

/** Whether a streaming query runs in Spark's Real-time Mode. Spark does not tell its sinks; what it knows of its running queries does. */
final class RealTimeMode {
  private static final String OPTION = "realTime";
  private static final String LINGER = "realTimeLinger";
  private static final String TRIGGER = "org.apache.spark.sql.execution.streaming.RealTimeTrigger";

  private RealTimeMode() {}

  /**
   * By the query's trigger, or by option {@code realTime}, which may ask for it with any trigger. The ordinary way must not be taken for a
   * query in Real-time Mode: it drops a batch that comes again, which has rows there that the first one did not have.
   */
  static boolean isAsked(String[] options, String query) {
    String option = Options.value(options, OPTION);
    Boolean isTrigger = isTrigger(query);
    if (option == null && isTrigger == null) {
      throw new BowstringException(
          "invalid_argument",
          false,
          "whether this query runs in Real-time Mode cannot be found out in this version of Spark; say so with option 'realTime': false for"
              + " any other trigger, exactly once; true for Real-time Mode, at least once");
    }
    boolean isAsked = option == null ? isTrigger : Boolean.parseBoolean(option);
    if (!isAsked && Boolean.TRUE.equals(isTrigger)) {
      throw new BowstringException(
          "invalid_argument",
          false,
          "option 'realTime' is false, but the query runs in Real-time Mode, where a batch that Spark runs again has other rows than before"
              + " and cannot be an epoch; leave the option out, or use another trigger");
    }
    if (!isAsked && Options.value(options, LINGER) != null) {
      throw new BowstringException(
          "invalid_argument", false, "option 'realTimeLinger' is for Real-time Mode, which this query does not run in; leave it out");
    }
    return isAsked;
  }

  /** Refuses the option where there is no streaming query. */
  static void refuse(String[] options) {
    if (Boolean.parseBoolean(Options.value(options, OPTION))) {
      throw new BowstringException(
          "invalid_argument", false, "option 'realTime' is for streaming queries: a batch write is one epoch; leave it out");
    }
    if (Options.value(options, LINGER) != null) {
      throw new BowstringException(
          "invalid_argument", false, "option 'realTimeLinger' is for streaming queries in Real-time Mode; leave it out");
    }
  }

  /** Null if it cannot be found out. */
  private static Boolean isTrigger(String query) {
    Class<?> trigger;
    try {
      trigger = Class.forName(TRIGGER, false, Trigger.class.getClassLoader());
    } catch (ClassNotFoundException error) {
      // Spark 4.0.
      return false;
    }
    try {
      Object found = SparkSession.active().sharedState().activeStreamingQueries().get(UUID.fromString(query));
      if (found == null) {
        return null;
      }
      // Its class is elsewhere in each version.
      return trigger.isInstance(found.getClass().getMethod("trigger").invoke(found));
    } catch (ReflectiveOperationException | LinkageError | RuntimeException error) {
      return null;
    }
  }
}
