package io.bowstring.spark;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.memory.ForeignAllocation;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorLoader;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.ipc.message.ArrowFieldNode;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.spark.sql.vectorized.ColumnVector;
import org.apache.spark.sql.vectorized.ColumnarBatch;

/** Columns whose memory is the library's: nothing is copied. A batch is let go when the next one is loaded. */
final class ForeignColumns implements AutoCloseable {
  /** A batch's number, its rows, how many numbers its nodes take. */
  private static final int HEAD = 3;

  private final BufferAllocator allocator;
  private final VectorSchemaRoot root;
  private final VectorLoader loader;
  private final PlainColumn[] plain;
  private final ColumnarBatch batch;

  ForeignColumns(String schema, String name) {
    allocator = ArrowMemory.open(name);
    try {
      root = VectorSchemaRoot.create(ArrowSchemas.of(schema), allocator);
    } catch (Throwable error) {
      allocator.close();
      throw error;
    }
    loader = new VectorLoader(root);
    ColumnVector[] columns = root.getFieldVectors().stream().map(ForeignColumns::column).toArray(ColumnVector[]::new);
    plain = Arrays.stream(columns).filter(PlainColumn.class::isInstance).toArray(PlainColumn[]::new);
    batch = new ColumnarBatch(columns);
  }

  private static ColumnVector column(FieldVector vector) {
    return PlainColumn.isKnown(vector) ? new PlainColumn(vector) : NestedColumn.of(vector);
  }

  /** The batch that {@link Native#nextBatch} gave. */
  ColumnarBatch load(long[] numbers) {
    int places = HEAD + (int) numbers[2];
    List<ArrowFieldNode> nodes = new ArrayList<>();
    for (int at = HEAD; at < places; at += 2) {
      nodes.add(new ArrowFieldNode(numbers[at], numbers[at + 1]));
    }
    List<ArrowBuf> buffers = buffers(numbers, places);
    forget();
    int rows;
    try {
      rows = Math.toIntExact(numbers[1]);
      try (ArrowRecordBatch loaded = new ArrowRecordBatch(rows, nodes, buffers)) {
        loader.load(loaded);
      }
    } finally {
      buffers.forEach(ArrowBuf::close);
    }
    for (PlainColumn column : plain) {
      column.look();
    }
    batch.setNumRows(rows);
    return batch;
  }

  private void forget() {
    for (PlainColumn column : plain) {
      column.forget();
    }
  }

  /** The library's memory as Arrow's buffers; the library hears when the last of them is let go. */
  private List<ArrowBuf> buffers(long[] numbers, int places) {
    long batch = numbers[0];
    // One for this method: it holds the batch until all buffers are there.
    AtomicInteger held = new AtomicInteger(1);
    List<ArrowBuf> buffers = new ArrayList<>();
    try {
      for (int at = places; at < numbers.length; at += 2) {
        buffers.add(numbers[at + 1] == 0 ? allocator.getEmpty() : foreign(batch, held, numbers[at], numbers[at + 1]));
      }
    } catch (Throwable error) {
      buffers.forEach(ArrowBuf::close);
      throw error;
    } finally {
      release(batch, held);
    }
    return buffers;
  }

  private ArrowBuf foreign(long batch, AtomicInteger held, long address, long bytes) {
    held.incrementAndGet();
    ForeignAllocation memory =
        new ForeignAllocation(bytes, address) {
          @Override
          protected void release0() {
            release(batch, held);
          }
        };
    ArrowBuf buffer = allocator.wrapForeignAllocation(memory);
    buffer.writerIndex(bytes);
    return buffer;
  }

  private static void release(long batch, AtomicInteger held) {
    if (held.decrementAndGet() == 0) {
      Native.releaseBatch(batch);
    }
  }

  @Override
  public void close() {
    forget();
    root.close();
    allocator.close();
  }
}
