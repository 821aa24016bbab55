package io.bowstring.spark;

import java.util.List;
import org.apache.arrow.memory.ArrowBuf;
import org.apache.arrow.memory.BufferAllocator;
import org.apache.arrow.vector.FieldVector;
import org.apache.arrow.vector.VectorSchemaRoot;
import org.apache.arrow.vector.VectorUnloader;
import org.apache.arrow.vector.ipc.message.ArrowFieldNode;
import org.apache.arrow.vector.ipc.message.ArrowRecordBatch;
import org.apache.spark.sql.catalyst.InternalRow;
import org.apache.spark.sql.execution.arrow.ArrowWriter;

/** Columns of any type, by what Spark ships for it. */
final class ArrowColumns implements RowColumns {
  private final BufferAllocator allocator;
  private final VectorSchemaRoot root;
  private final ArrowWriter writer;
  private final VectorUnloader unloader;

  ArrowColumns(String schema, String name) {
    allocator = ArrowMemory.open(name);
    VectorSchemaRoot made = null;
    try {
      made = VectorSchemaRoot.create(ArrowSchemas.of(schema), allocator);
      writer = ArrowWriter.create(made);
    } catch (Throwable error) {
      if (made != null) {
        made.close();
      }
      allocator.close();
      throw error;
    }
    root = made;
    unloader = new VectorUnloader(root, true, false);
  }

  @Override
  public void write(InternalRow row) {
    writer.write(row);
  }

  @Override
  public long bytes(int rows) {
    long bytes = 0;
    for (FieldVector vector : root.getFieldVectors()) {
      // Spark writes nothing for a null of some types: what the vector does not know of it would look for beyond its end.
      vector.setValueCount(rows);
      bytes += vector.getBufferSizeFor(rows);
    }
    return bytes;
  }

  @Override
  public void send(long to, int rows) {
    writer.finish();
    try (ArrowRecordBatch batch = unloader.getRecordBatch()) {
      Native.append(to, rows, nodes(batch.getNodes()), places(batch.getBuffers()));
    }
    writer.reset();
  }

  private static long[] nodes(List<ArrowFieldNode> nodes) {
    long[] numbers = new long[2 * nodes.size()];
    int at = 0;
    for (ArrowFieldNode node : nodes) {
      numbers[at++] = node.getLength();
      numbers[at++] = node.getNullCount();
    }
    return numbers;
  }

  private static long[] places(List<ArrowBuf> buffers) {
    long[] numbers = new long[2 * buffers.size()];
    int at = 0;
    for (ArrowBuf buffer : buffers) {
      numbers[at++] = buffer.memoryAddress();
      numbers[at++] = buffer.readableBytes();
    }
    return numbers;
  }

  @Override
  public void close() {
    root.close();
    allocator.close();
  }
}
