package io.bowstring.spark;

import java.io.IOException;
import java.io.InterruptedIOException;
import java.io.UncheckedIOException;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.connector.write.DataWriter;
import org.apache.spark.sql.connector.write.WriterCommitMessage;

/**
 * Writes the rows of one task in Real-time Mode, where a task lasts for minutes and its rows are to be seen at once.
 *
 * <p>Spark says nothing while it waits for rows. So a thread of the writer's own, the sender, sends what there is: at once after a pause,
 * and else when the linger since the last batch has passed, so that no row waits for longer and a quick source makes no more batches than
 * that. What fails there fails the task, which the sender interrupts where it waits for rows.
 */
final class RealTimeTaskWriter implements DataWriter<InternalRow> {
  /** How often the sender asks whether what it has sent was refused. */
  private static final long CHECK_NANOS = TimeUnit.MILLISECONDS.toNanos(100);

  /** Guards the batch. The sender has it while it waits for room, so that the task waits, too. */
  private final ReentrantLock lock = new ReentrantLock();

  private final Condition isFirstRow = lock.newCondition();
  private final OpenBatch batch;
  private final long lingerNanos;
  private final long writer;
  private final Thread task = Thread.currentThread();
  private final Thread sender;
  private long sentAt;
  private volatile RuntimeException failure;

  /** The sender has nothing more to do. */
  private volatile boolean isEnded;

  RealTimeTaskWriter(SinkPlan plan, String query, int partition) {
    batch = new OpenBatch(plan, partition);
    lingerNanos = plan.lingerNanos();
    sentAt = System.nanoTime() - lingerNanos;
    try {
      writer = Native.openRealTimeWriter(plan.options, plan.schema, plan.target, query, partition);
    } catch (Throwable error) {
      batch.close();
      throw error;
    }
    sender = new Thread(this::sendWhatWaits, "bowstring-sender-" + partition);
    sender.setDaemon(true);
    try {
      sender.start();
    } catch (Throwable error) {
      Native.closeWriter(writer);
      batch.close();
      throw error;
    }
  }

  @Override
  public void writeAll(Iterator<InternalRow> rows) throws IOException {
    try {
      DataWriter.super.writeAll(rows);
    } catch (Throwable error) {
      RuntimeException reason = failure;
      if (reason == null || reason == error) {
        throw error;
      }
      // It was the sender that has interrupted the wait for rows.
      reason.addSuppressed(error);
      throw reason;
    }
  }

  @Override
  public void write(InternalRow row) {
    enter();
    try {
      if (batch.isEmpty()) {
        isFirstRow.signal();
      }
      if (batch.write(row)) {
        send();
      }
    } catch (Throwable error) {
      // Half a row may be in the batch: nobody may send it.
      isEnded = true;
      throw error;
    } finally {
      lock.unlock();
    }
  }

  /** Waits until all is stored. */
  @Override
  public WriterCommitMessage commit() {
    enter();
    try {
      send();
      isEnded = true;
    } finally {
      lock.unlock();
    }
    endSender();
    return TaskResult.of(Native.finishWriter(writer));
  }

  /** What was appended stays, and what was not is given up. */
  @Override
  public void abort() {}

  @Override
  public void close() {
    endSender();
    Native.closeWriter(writer);
    batch.close();
  }

  /** Takes the lock, unless there is nothing more to write for. */
  private void enter() {
    try {
      lock.lockInterruptibly();
    } catch (InterruptedException error) {
      throw failure != null ? failure : new UncheckedIOException(new InterruptedIOException("interrupted while an append waited for room"));
    }
    if (failure != null) {
      lock.unlock();
      throw failure;
    }
  }

  private void send() {
    batch.send(writer);
    sentAt = System.nanoTime();
  }

  private void sendWhatWaits() {
    lock.lock();
    try {
      while (!isEnded) {
        long left = lingerNanos - (System.nanoTime() - sentAt);
        if (!batch.isEmpty() && left <= 0) {
          send();
        } else if (!batch.isEmpty()) {
          isFirstRow.awaitNanos(left);
        } else if (isFirstRow.awaitNanos(CHECK_NANOS) <= 0 && !isEnded) {
          Native.isStored(writer);
        }
      }
    } catch (InterruptedException error) {
      // Only its end interrupts it.
    } catch (Throwable error) {
      fail(error);
    } finally {
      lock.unlock();
    }
  }

  private void fail(Throwable error) {
    if (!isEnded) {
      failure = error instanceof RuntimeException reason ? reason : new IllegalStateException("the sender of a task has failed", error);
      task.interrupt();
    }
  }

  /** Returns when it runs no more, within about 100 ms if it waits for room. */
  private void endSender() {
    isEnded = true;
    sender.interrupt();
    boolean isInterrupted = false;
    while (sender.isAlive()) {
      try {
        sender.join();
      } catch (InterruptedException error) {
        isInterrupted = true;
      }
    }
    if (isInterrupted) {
      Thread.currentThread().interrupt();
    }
  }
}
