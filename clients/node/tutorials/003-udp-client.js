const dgram = require('@farsock/client').host('lab-a').dgram;
let message = new Buffer('msg from client');
let socket = dgram.createSocket('udp4');
socket.send(message,0,message.length,3000,'localhost',function (err,bytes) {
    if(err){
        console.log(err);
        return;
    } else {
        console.log('client send ' + bytes + 'message')
    }
});
socket.on('message',function (msg,rinfo) {
    console.log('msg from server');
});
