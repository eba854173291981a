const dgram = require('@farsock/client').host('lab-a').dgram;
let socket = dgram.createSocket('udp4',function (msg,rinfo) {
    console.log(msg.toString());
    let message = new Buffer('hello,I am server');
    socket.send(message,0,message.length,rinfo.port,rinfo.address,function (err,bytes) {
        if(err){
            console.log('error is ' + err);
        } else {
            console.log('send ' + bytes + ' message');
        }
    });
}).bind(3000,'localhost');
