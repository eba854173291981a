var net = require('@farsock/client').host('lab-a').net;
var client = net.connect({port: 8888},
    function() { 
  console.log('El cliente se conectó');
  client.write('hola server TCP\r\n');
});
client.on('data', function(data) {
  console.log(data.toString());
  client.end();
});
client.on('end', function() {
  console.log('El cliente se desconectó');
});
