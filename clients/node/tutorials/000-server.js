var net = require('@farsock/client').host('lab-a').net;
var server = net.createServer(function(socket) { //'connection' listener
  console.log('Conexión recibida');
  socket.on('end', function() {
    console.log('Socket desconectado');
  });
  socket.write('hola que tal\r\n');
});
server.listen(8888, function() { 
  console.log('server TCP escuchando.');
});
