package io.bowstring.spark;

import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import org.apache.spark.TaskContext;
import org.apache.spark.TaskKilledException;

/**
 * The client core, in Rust. Numbers name what lives there; a number that was closed is an error, never a stray pointer. Options are
 * names and values in turn, schemas are Spark's in JSON.
 *
 * <p>Whatever waits asks {@link #isCancelled} every 100 ms. All methods throw {@link BowstringException}, and whoever
 * uses them first calls {@link NativeLibrary#check}.
 */
final class Native {
  static {
    NativeLibrary.load();
  }

  private Native() {}

  /** Has the library loaded. */
  static void touch() {}

  /** Creates the stream if need be: its partitions, the most bytes of a batch, and nanoseconds to linger in Real-time Mode. */
  static native long[] prepareSink(String[] options, String schema);

  /** Makes what the receipts stand for visible, all at once. */
  static native void commitEpoch(String[] options, String producer, String run, long epoch, byte[][] receipts);

  /** Gives back what was staged. */
  static native void abortEpoch(String[] options, String producer, String run, long epoch);

  /** {@code target} is what {@link #prepareSink} gave. */
  static native long openWriter(
      String[] options, String schema, long[] target, String producer, String run, long epoch, int task, boolean reopen);

  /** Appends as the producer {@code <query>-<task>}, whose batches are visible as they arrive. Older ones of the name are fenced. */
  static native long openRealTimeWriter(String[] options, String schema, long[] target, String query, int task);

  /** {@code nodes}: rows and nulls of each array; {@code places}: address and bytes of each buffer. All is copied. */
  static native void append(long writer, int rows, long[] nodes, long[] places);

  /** Whether all is stored that was appended in Real-time Mode. */
  static native boolean isStored(long writer);

  /** Waits until all is staged, or stored; null if there is nothing to commit. */
  static native byte[] finishWriter(long writer);

  static native void closeWriter(long writer);

  /** The Arrow schema of a Spark schema, as an encapsulated IPC message. */
  static native byte[] arrowSchema(String schema);

  static native long openSource(String[] options);

  static native String sparkSchema(long source);

  static native String initialOffset(long source);

  /** An offset in the form in which offsets can be compared as text. */
  static native String normalOffset(long source, String offset);

  static native void prepareAvailableNow(long source);

  /** Null if there is nothing new. */
  static native String latestOffset(long source, String start, boolean isLimited);

  /** Partition, start, end and stream id of each range of a micro-batch. */
  static native long[] ranges(long source, String start, String end);

  /** The same, of a batch read. */
  static native long[] snapshot(long source);

  static native void commitOffset(long source, String end);

  /** The query has ended; closes the source, too. */
  static native void stopSource(long source);

  static native void closeSource(long source);

  static native long openReader(String[] options, long[] range, String schema);

  /** A batch's number, its rows, how many numbers its nodes take, nodes, places of buffers; null at the end. */
  static native long[] nextBatch(long reader);

  static native void releaseBatch(long batch);

  static native void closeReader(long reader);

  /** The names of all streams of the coordinator that the options name. */
  static native String[] streams(String[] options);

  static native boolean hasStream(String[] options);

  /** Whether there was one. */
  static native boolean deleteStream(String[] options);

  /** Batches that were not released. */
  static native long batchesHeld();

  /** Called by the library while it waits: whether nobody waits for it any more. */
  static boolean isCancelled() {
    TaskContext task = TaskContext.get();
    return Thread.currentThread().isInterrupted() || (task != null && task.isInterrupted());
  }

  /** Called by the library: what is to be thrown. Spark knows a killed task and a stopped query by the class of what they throw. */
  static Throwable thrown(String code, boolean retryable, String text) {
    if (!code.equals("cancelled") || !isCancelled()) {
      return new BowstringException(code, retryable, text);
    }
    TaskContext task = TaskContext.get();
    if (task != null && task.isInterrupted()) {
      return new TaskKilledException(text);
    }
    return new UncheckedIOException(new InterruptedIOException(text));
  }
}
