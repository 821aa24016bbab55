package io.bowstring.spark;

import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.channels.Channels;
import org.apache.arrow.vector.ipc.ReadChannel;
import org.apache.arrow.vector.ipc.message.MessageSerializer;
import org.apache.arrow.vector.types.pojo.Schema;

/** Arrow's schemas of Spark's: the library says what becomes of each type. */
final class ArrowSchemas {
  private ArrowSchemas() {}

  /** The Arrow schema of a Spark schema in JSON. */
  static Schema of(String schema) {
    byte[] message = Native.arrowSchema(schema);
    try {
      return MessageSerializer.deserializeSchema(new ReadChannel(Channels.newChannel(new ByteArrayInputStream(message))));
    } catch (IOException error) {
      throw new UncheckedIOException(error);
    }
  }
}
